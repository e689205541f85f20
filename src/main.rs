//! The binary: passes the arguments to [`zabra::cli`].

use std::process;

/// glibc's allocator took a fifth of the instructions of a pipelined write.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> process::ExitCode {
    zabra::cli::main(zabra::runtime::boot::run)
}
