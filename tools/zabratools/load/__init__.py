"""tools/load/beside, hostile and large: comparisons with Apache ZooKeeper."""
