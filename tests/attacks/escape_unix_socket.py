# class: escape
# kind: both
# must: reject
# note: 
import socket
s = socket.socket(socket.AF_UNIX)
s.connect('\0canary')
