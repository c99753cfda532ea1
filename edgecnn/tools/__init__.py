"""What the commands do, as functions that give data back; each knows how to say itself as text and as JSON.

inspect.py  what a file holds
run.py      answers for a picture or an array file; images.py and arrays.py read and write those
bench.py    how fast a model is here; condition.py tells whether the machine can be trusted while it is measured
info.py     CPU, build and versions
text.py     tables, sizes, and names made safe for a terminal
"""
