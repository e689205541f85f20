"""tools/load/beside, hostile and large: figures beside Apache ZooKeeper's."""
