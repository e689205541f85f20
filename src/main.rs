//! The binary: argv to [`zabra::cli`].

use std::process;

fn main() -> process::ExitCode {
    zabra::cli::main(zabra::runtime::boot::run)
}
