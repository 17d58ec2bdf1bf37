"""Ray nodes of one core each on this machine; every line that is read starts one more.

A process of its own, since Ray forks, which a process with JAX must not. Prints the address, and
the process id of each node's raylet. Ends with its standard input.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def main() -> None:
    """Starts the head, which is the first node."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    node = cluster.head_node
    print(cluster.address, flush=True)
    while True:
        print(node.all_processes["raylet"][0].process.pid, flush=True)
        if not sys.stdin.readline():
            break
        node = cluster.add_node(**NODE)
    cluster.shutdown()


if __name__ == "__main__":
    main()
