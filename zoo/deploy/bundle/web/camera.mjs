// The camera: asked for after a click only, looked at picture by picture, and let go of.

const PAUSE_MS = 100;

/**
 * @param {{button: HTMLButtonElement, video: HTMLVideoElement, open: () => any, look: (view: any) => Promise<void>,
 *   fail: (text: string) => void}} page `open` makes what `look` fills.
 */
export function camera({ button, video, open, look, fail }) {
  const [start, stop] = [button.textContent, "Stop the camera"];
  let stream = null;

  const end = () => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    Object.assign(video, { srcObject: null, hidden: true });
    button.textContent = start;
  };

  const film = async () => {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    Object.assign(video, { srcObject: stream, hidden: false });
    button.textContent = stop;
    await video.play();
    const view = open();
    while (stream) {
      await look(view);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  };

  button.onclick = () => {
    if (stream) return end();
    const why = (error) => `The camera cannot be used: ${error.message || error.name}.`;
    return film().catch((error) => (end(), fail(why(error))));
  };
}
