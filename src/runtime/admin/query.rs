//! The arguments after the `?` of a URL.

/// The value of `key`, not decoded.
pub(super) fn argument<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

/// All values of `key`, decoded. Keys and values may be percent-encoded.
pub(super) fn values(query: &str, key: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(k, _)| decoded(k) == key).map(|(_, v)| decoded(v)).collect()
}

/// Decodes `%5B` as `[` and `+` as a blank. Other text is not changed.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.first_chunk::<2>().filter(|_| *first == b'%');
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let query = "name[]=a&name%5B%5D=b%2Bc+d&name=x&other=y&name[]=&name[]=%zz%";
        assert_eq!(values(query, "name[]"), ["a", "b+c d", "", "%zz%"]);
        assert_eq!(values("", "name[]"), Vec::<String>::new());
        assert_eq!((argument(query, "other"), argument(query, "nosuch")), (Some("y"), None));
    }
}
