//! Runs one input of one target: `cargo run -p zabra-fuzz --bin reproduce -- TARGET FILE`. Works without nightly.

zabra_fuzz::bounded_memory!();

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, file] = &arguments[..] else {
        return Err(std::io::Error::other("usage: reproduce TARGET FILE"));
    };
    let Some((_, run)) = zabra_fuzz::TARGETS.iter().find(|(name, _)| name == target) else {
        return Err(std::io::Error::other(format!(
            "no target {target}: one of {:?}",
            zabra_fuzz::TARGETS.map(|t| t.0)
        )));
    };
    run(&std::fs::read(file)?);
    println!("{target}: nothing is wrong with {file}");
    Ok(())
}
