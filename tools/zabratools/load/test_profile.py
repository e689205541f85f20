"""Tests of the profile that need neither servers nor perf. python3 -m unittest discover -s tools"""

import unittest
from types import SimpleNamespace as Some

from zabratools.load import profile
from zabratools.server import Trouble

SCRIPT = """core-0-2   4711    1003009:
	ffffffff8f0a1b2c _raw_spin_unlock_irqrestore ([kernel.kallsyms])
	ffffffff8f0a1b2d sock_def_readable ([kernel.kallsyms])
	ffffffff8f0a1b2e tcp_sendmsg_locked ([kernel.kallsyms])
	ffffffff8f0a1b2f io_issue_sqe ([kernel.kallsyms])
	    7f0011223344 syscall (/usr/lib/libc.so.6)

core-0-2   4711    2006018:
	    55d000000001 <zabra::runtime::net::uring::Uring as zabra::runtime::net::driver::Driver>::reap::h0123456789abcdef (/x/zabra)
	    55d000000002 [unknown] ([unknown])

a (b) c   4712    1003009:
	ffffffff8f0a1b2c submit_bio_noacct ([kernel.kallsyms])
	ffffffff8f0a1b2d ext4_writepages ([kernel.kallsyms])

"""


class Profile(unittest.TestCase):
    def test_perf_script_is_read(self):
        taken = profile.samples(SCRIPT)
        self.assertEqual([(s.thread, s.weight, len(s.frames)) for s in taken],
                         [("core-0-2", 1003009, 5), ("core-0-2", 2006018, 2), ("a (b) c", 1003009, 2)])
        self.assertEqual(taken[1].frames[0][0], "<zabra::runtime::net::uring::Uring as zabra::runtime::net::driver::Driver>::reap")
        self.assertEqual([profile.part_of(s.frames) for s in taken], ["kernel: TCP", "network", "kernel: disk"])
        self.assertEqual(profile.totals(taken, lambda s: s.thread), [("core-0-2", 0.75), ("a (b) c", 0.25)])
        with self.assertRaisesRegex(Trouble, "what is"):
            profile.samples("Warning: something\n")

    def test_parts(self):
        kernel, own, libc = "[kernel.kallsyms]", "/x/zabra", "/usr/lib/libc.so.6"
        for frames, part in [
            # The innermost call that says what it is for decides, and only the kernel's.
            ([("finish_task_switch.isra.0", kernel), ("schedule", kernel), ("jbd2_log_wait_commit", kernel), ("ext4_sync_file", kernel)],
             "kernel: sleep and wake-up"),
            ([("memcpy_orig", kernel), ("skb_copy_datagram_iter", kernel), ("tcp_recvmsg", kernel)], "kernel: TCP"),
            ([("clear_page_erms", kernel), ("do_anonymous_page", kernel), ("handle_mm_fault", kernel), ("ext4_x", own)], "kernel: memory"),
            ([("io_submit_sqes", kernel)], "kernel: io_uring"),
            ([("clear_page_erms", kernel), ("ext4_x", own)], "kernel: other"),
            ([("zabra::runtime::peer_net::PeerNet::deadline_ms", own)], "connections between members"),
            ([("zabra::runtime::log_thread::LogThread::batch", own)], "log"),
            ([("zabra::txnlog::log::Log::append", own)], "log"),
            ([("<zabra::runtime::shard_core::ShardLinks as zabra::shard::turn::Links>::next", own)], "runtime::shard_core"),
            ([("zabra::zab::leader::Leader::ack", own)], "zab"),
            ([("core::ptr::drop_in_place<zabra::peer::Peer>", own)], "peer"),
            ([("__memmove_avx512_unaligned_erms", libc)], "copies and allocation"),
            ([("crc32fast::specialized::pclmulqdq::calculate", own)], "library crc32fast"),
            ([("<alloc::vec::Vec<T> as core::clone::Clone>::clone", own)], "library alloc"),
            ([("syscall", libc)], "other libraries"),
            ([], "unknown"),
        ]:
            self.assertEqual(profile.part_of(frames), part, frames)

    def test_tables(self):
        taken = profile.samples(SCRIPT)
        text = profile.table("part", profile.totals(taken, lambda s: profile.part_of(s.frames)), 8.0, most=2)
        self.assertIn("| network | 50.0 % | 4.00 |", text)
        self.assertIn("| others | 25.0 % | 2.00 |", text)
        members = [{"name": "zabra-1", "role": "follower", "cpus": 0.4}, {"name": "zabra-2", "role": "leader", "cpus": 0.8}]
        text = profile.of_all(members, [taken, taken[:1]], 100_000)
        self.assertIn("| kernel: TCP | 9.00 | 1.00 | 8.00 |", text)
        self.assertIn("| all | 12.00 | 4.00 | 8.00 |", text)
        text = profile.of_member(Some(top=1), members[0], taken, 100_000)
        self.assertIn("zabra-1, follower: 0.40 CPUs, 4.00 µs", text)
        self.assertIn("Driver>::reap` | 50.0 % | 2.00 |", text)
        self.assertIn("| core-0-2 | 75.0 % | 3.00 |", text)


if __name__ == "__main__":
    unittest.main()
