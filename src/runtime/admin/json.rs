//! JSON as ZooKeeper's admin server prints it: indented as by Jackson, with decimals as in Java.

use serde_json::Value;

use super::java;

/// `{\n  "key" : value\n}`: every field of an object on a line of its own, arrays on one line.
pub(super) fn print(v: &Value) -> String {
    let mut out = String::new();
    put(&mut out, v, 0);
    out
}

fn put(out: &mut String, v: &Value, depth: usize) {
    match v {
        Value::Object(fields) if fields.is_empty() => out.push_str("{ }"),
        Value::Array(items) if items.is_empty() => out.push_str("[ ]"),
        Value::Object(fields) => {
            out.push('{');
            for (i, (key, value)) in fields.iter().enumerate() {
                out.push_str(if i == 0 { "\n" } else { ",\n" });
                indent(out, depth + 1);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(" : ");
                put(out, value, depth + 1);
            }
            out.push('\n');
            indent(out, depth);
            out.push('}');
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "[ " } else { ", " });
                put(out, item, depth);
            }
            out.push_str(" ]");
        }
        Value::Number(n) if n.is_f64() => out.push_str(&java::double(n.as_f64().unwrap_or_default())),
        other => out.push_str(&other.to_string()),
    }
}

fn indent(out: &mut String, depth: usize) {
    (0..depth).for_each(|_| out.push_str("  "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_jackson_prints() {
        assert_eq!(
            print(&json!({"command": "ruok", "error": null})),
            "{\n  \"command\" : \"ruok\",\n  \"error\" : null\n}"
        );
        let v = json!({"a": {"3233000": [2, 1], "x": []}, "d": [{"zxid": 128}, {"zxid": 256}], "e": {}, "f": 0.0, "g": "a\"\n"});
        let want = "{\n  \"a\" : {\n    \"3233000\" : [ 2, 1 ],\n    \"x\" : [ ]\n  },\n  \"d\" : [ {\n    \"zxid\" : 128\n  }, {\n    \
                    \"zxid\" : 256\n  } ],\n  \"e\" : { },\n  \"f\" : 0.0,\n  \"g\" : \"a\\\"\\n\"\n}";
        assert_eq!(print(&v), want);
    }
}
