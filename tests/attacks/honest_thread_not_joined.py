# class: honest
# kind: stdin
# must: accept
# note: the interpreter waits for threads
import threading, time
def main():
    a, b = map(int, input().split())
    time.sleep(0.05)
    print(a - b)
threading.Thread(target=main).start()
