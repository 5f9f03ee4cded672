"""Many servers as one: replicas on Ray Serve, each a whole server with its own device.

POST /whip -> Ray's proxy -> [ingress] -> a server with room
its other requests -> [ingress] -> the server that its id names
video: from the peer straight to that server, by UDP
"""
