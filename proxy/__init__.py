"""The proxy plane: moves connections. L4 and L7 load balancing, TLS, security groups, health.

It knows neither DNS nor where its configuration came from; `specs` is all it is told.
"""
