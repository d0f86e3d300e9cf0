"""One file per routing policy; each turns the eligible instances of a service into rings of whole answers."""
