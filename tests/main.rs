//! Tests that need more than one part of the system: one binary, with a folder per subject.

mod control;
mod ensemble;
mod golden;
mod ordering;
mod process;
mod scripts;
mod sim;
mod tidy;
