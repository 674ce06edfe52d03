"""Homomorphic encryption. `secureagg.he.tenseal` is the CKKS reference path; nothing is imported here."""
