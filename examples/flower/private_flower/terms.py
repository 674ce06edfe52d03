"""What server and nodes agree on."""

from secureagg.adapters.flower import Committee, Terms

TERMS = Terms(
    l2_clip=2.0,  # of an update; longer ones are scaled down on the node
    max_weight=100,  # most examples a node may have
    quorum=3,  # fewest nodes whose sum may be opened
    committee=Committee(4),  # any three of these nodes open a sum; none may collude with the server
    metrics={"loss": 5.0},  # its mean is revealed, too
)
