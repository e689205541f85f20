//! Everything that needs more than one part: one binary, a folder a subject.

mod control;
mod ensemble;
mod golden;
mod ordering;
mod process;
mod scripts;
mod sim;
mod tidy;
