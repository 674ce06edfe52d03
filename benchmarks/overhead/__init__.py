"""What does each kind of protection cost, stage by stage, from 10^4 to 10^7 values and 10 to 1000 clients?"""
