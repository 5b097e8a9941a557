# class: escape
# kind: both
# must: reject
# note: 
import socket
socket.socketpair()
