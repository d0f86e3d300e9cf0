"""The DNS plane: answers names. Service discovery with weights and health, and forwarding of the rest.

It knows neither the proxy nor where its configuration came from; `specs` is all it is told.
"""
