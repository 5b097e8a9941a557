# class: escape
# kind: both
# must: reject
# note: 
import subprocess
print(subprocess.run(['/bin/ls', '/'], capture_output=True).stdout)
