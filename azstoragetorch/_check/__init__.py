"""What ``python -m azstoragetorch`` does; on top of everything else, and used by nothing.

program     arguments, exit status
visit       what is done with a URL
about       what is installed, and which credentials this machine seems to have
access      from the name of the host to the first byte, one step after the other
speed       latency and throughput, and what follows from them
screen      lines, and the progress bar
"""
