# class: escape
# kind: both
# must: reject
# note: 
import socket
s = socket.create_connection(('127.0.0.1', 80), 1)
print(s)
