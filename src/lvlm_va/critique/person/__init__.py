"""A person as the critic: a few dozen judgements of single segments, carried over to those like them.

judgements   every judgement, on the disk at once
similarity   how unlike two segments are: place, appearance, the classifier's activations
carrying     which segment to ask about next, and what follows for the others
judging      all of it together, for whoever asks the person: a terminal, a file, a browser
picture      what the person sees of one segment
sheet        segments to judge as a folder, and the way back
"""
