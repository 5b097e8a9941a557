# class: protocol
# kind: both
# must: reject
# note: reports of a good end into every descriptor that there may be
import json, os
for job in range(1, 40):
    report = json.dumps({"job": job, "killed": "", "status": 0, "cpu": 0.0, "wall": 0.0, "waited": 0.0, "fault": ""})
    for fd in range(7, 3000):
        try:
            os.write(fd, report.encode())
        except OSError:
            pass
os._exit(0)
