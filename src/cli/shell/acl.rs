//! ACLs as zkCli parses and prints them. Mirrors `AclParser` and `ZKUtil.getPermString`.

use super::console::Console;
use crate::types::{Acl, Id, perms};

const LETTERS: [(char, i32); 5] =
    [('c', perms::CREATE), ('d', perms::DELETE), ('r', perms::READ), ('w', perms::WRITE), ('a', perms::ADMIN)];

/// Parses `scheme:id:perms[,scheme:id:perms…]`; the id may contain colons. Invalid entries are reported and left out.
pub(crate) fn parse(text: &str, console: &Console) -> Vec<Acl> {
    // Java's `split` drops empty parts at the end.
    let text = text.trim_end_matches(',');
    text.split(',').filter_map(|entry| parse_entry(entry, console)).collect()
}

fn parse_entry(entry: &str, console: &Console) -> Option<Acl> {
    let parts = entry.split_once(':').and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once(':')?)));
    let Some((scheme, (id, letters))) = parts else {
        console.err_line(&format!("{entry} does not have the form scheme:id:perm"));
        return None;
    };
    let mut bits = 0;
    for c in letters.chars() {
        match LETTERS.iter().find(|(letter, _)| *letter == c) {
            Some((_, bit)) => bits |= bit,
            None => console.err_line(&format!("Unknown perm type: {c}")),
        }
    }
    Some(Acl { perms: bits, id: Id::new(scheme, id) })
}

/// The letters of the permission bits, in Java's order.
pub(crate) fn letters(bits: i32) -> String {
    LETTERS.iter().filter(|(_, bit)| bits & bit != 0).map(|(c, _)| *c).collect()
}

/// An entry as the two lines that zkCli prints.
pub(crate) fn text(acl: &Acl) -> String {
    format!("'{},'{}\n: {}\n", acl.id.scheme, acl.id.id, letters(acl.perms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading() {
        let (console, seen) = Console::captured();
        assert_eq!(parse("world:anyone:cdrwa", &console), [Acl::world_all()]);
        assert_eq!(
            parse("digest:bob:hash=:x:r,auth::wa,", &console),
            [Acl { perms: 1, id: Id::new("digest", "bob:hash=:x") }, Acl { perms: 18, id: Id::new("auth", "") }]
        );
        assert_eq!(seen.err(), "");
        assert_eq!(parse("world:anyone,ip:1.2.3.4:rq", &console), [Acl { perms: 1, id: Id::new("ip", "1.2.3.4") }]);
        assert_eq!(seen.err(), "world:anyone does not have the form scheme:id:perm\nUnknown perm type: q\n");
        assert_eq!(parse("", &console), []);
    }

    #[test]
    fn printing() {
        assert_eq!(text(&Acl::world_all()), "'world,'anyone\n: cdrwa\n");
        assert_eq!(letters(perms::ADMIN | perms::READ), "ra");
    }
}
