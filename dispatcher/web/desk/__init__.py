"""The desk: the pages of those who write, send and watch. Every one but the doors needs somebody who is signed in."""
