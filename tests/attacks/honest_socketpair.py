# class: honest
# kind: stdin
# must: accept
# note: two threads that talk through a pair of sockets
import socket, threading
a, b = socket.socketpair()
def serve():
    x, y = map(int, b.recv(100).split())
    b.sendall(b"%d" % (x - y))
    b.close()
threading.Thread(target=serve).start()
a.sendall(input().encode())
print(a.recv(100).decode())
