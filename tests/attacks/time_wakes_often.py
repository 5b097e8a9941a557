# class: time
# kind: both
# must: reject
# note: sleeps, but wakes a thousand times a second in eight threads and works a little
import signal, threading, time
signal.signal(signal.SIGALRM, lambda *_: sum(range(300)))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def nap():
    while True:
        time.sleep(0.001)
for _ in range(8):
    threading.Thread(target=nap, daemon=True).start()
while True:
    time.sleep(1)
