"""In production: does the world still look as it did on the proof's images?"""
