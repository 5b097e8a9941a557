# class: time
# kind: both
# must: reject
# note: a thread spins after the program ended
import threading
def spin():
    while True:
        pass
threading.Thread(target=spin).start()
