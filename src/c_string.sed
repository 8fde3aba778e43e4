# Makes a C string of a text file: one literal a line.
s/\\/\\\\/g
s/"/\\"/g
s/.*/"&\\n"/
