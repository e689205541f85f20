//! The binary: argv to [`zabra::cli`].

use std::process;

/// glibc's took a fifth of a pipelined write's instructions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> process::ExitCode {
    zabra::cli::main(zabra::runtime::boot::run)
}
