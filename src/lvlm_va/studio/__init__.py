"""The studio: a local page on which an expert understands, reviews, specifies, aligns and hands over.

It keeps no state of its own: everything is read from, and written to, the run's directory and the
specifications' file, so that closing the browser or stopping the server loses nothing.
"""
