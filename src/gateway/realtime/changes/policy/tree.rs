//! Postgres' stored expressions (`pg_node_tree`) as trees: `{OPEXPR :opno 98 :args ({VAR :varno 1 ..} ..)}`.

use std::iter::Peekable;

/// Nodes inside each other at most; policies that people write stay far below.
const MAX_DEPTH: usize = 200;

/// A value of a node's field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A node.
    Node(Node<'a>),
    /// A list of values.
    List(Vec<Value<'a>>),
    /// A number, a word, a name.
    Word(&'a str),
    /// Nothing: `<>`.
    Nothing,
}

/// A node: its tag and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// What it is, in capitals.
    pub tag: &'a str,
    fields: Vec<(&'a str, Vec<Value<'a>>)>,
}

impl<'a> Node<'a> {
    /// A field's value; nothing where the field is missing.
    pub fn get(&self, field: &str) -> &Value<'a> {
        self.all(field).first().unwrap_or(&Value::Nothing)
    }

    /// A field's words, of those few that are written as several: a constant's bytes.
    pub fn all(&self, field: &str) -> &[Value<'a>] {
        let found = self.fields.iter().find(|(name, _)| *name == field);
        found.map_or(&[], |(_, values)| values)
    }

    /// Every value in it.
    pub fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.fields.iter().flat_map(|(_, values)| values)
    }

    /// A field that is a number.
    pub fn number<T: std::str::FromStr>(&self, field: &str) -> Option<T> {
        self.get(field).word()?.parse().ok()
    }

    /// Whether a field says `true`.
    pub fn is(&self, field: &str) -> bool {
        self.get(field) == &Value::Word("true")
    }

    /// The bytes of a `CONST`; `None` for null.
    pub fn constant(&self) -> Option<Vec<u8>> {
        let words = self.all("constvalue");
        #[expect(clippy::cast_sign_loss, reason = "bytes are written as signed numbers")]
        let byte = |value: &Value<'_>| value.word()?.parse::<i8>().ok().map(|byte| byte as u8);
        match words {
            [Value::Word(_), Value::Word("["), bytes @ .., Value::Word("]")] => bytes.iter().map(byte).collect(),
            _ => None,
        }
    }
}

impl<'a> Value<'a> {
    /// Reads a tree; `None` for what is none, or is nested too deeply.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut words = Words { rest: text }.peekable();
        let value = value(&mut words, 0)?;
        words.next().is_none().then_some(value)
    }

    /// The word it is.
    pub fn word(&self) -> Option<&'a str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }

    /// The node it is.
    pub fn node(&self) -> Option<&Node<'a>> {
        match self {
            Self::Node(node) => Some(node),
            _ => None,
        }
    }

    /// The values of a list; none of anything else.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(values) => values,
            _ => &[],
        }
    }
}

fn value<'a>(words: &mut Peekable<Words<'a>>, depth: usize) -> Option<Value<'a>> {
    if depth > MAX_DEPTH {
        return None;
    }
    match words.next()? {
        "{" => node(words, depth).map(Value::Node),
        "(" => {
            let mut values = Vec::new();
            while *words.peek()? != ")" {
                values.push(value(words, depth + 1)?);
            }
            words.next();
            Some(Value::List(values))
        }
        "<>" => Some(Value::Nothing),
        ")" | "}" => None,
        word => Some(Value::Word(word)),
    }
}

fn node<'a>(words: &mut Peekable<Words<'a>>, depth: usize) -> Option<Node<'a>> {
    let tag = words
        .next()
        .filter(|tag| tag.bytes().all(|byte| byte.is_ascii_uppercase()))?;
    let mut fields = Vec::new();
    loop {
        let word = words.next()?;
        if word == "}" {
            return Some(Node { tag, fields });
        }
        let name = word.strip_prefix(':')?;
        let mut values = Vec::new();
        while !matches!(*words.peek()?, "}") && !words.peek()?.starts_with(':') {
            values.push(value(words, depth + 1)?);
        }
        // A name that looks like a field would be taken for one, and leave the field before it without a value.
        if values.is_empty() || fields.iter().any(|(known, _)| *known == name) {
            return None;
        }
        fields.push((name, values));
    }
}

/// The words of a tree: brackets by themselves, all else up to a blank or a bracket that is not escaped.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start_matches([' ', '\n', '\t']);
        let bytes = self.rest.as_bytes();
        let end = match bytes.first()? {
            b'(' | b')' | b'{' | b'}' => 1,
            b'"' => {
                let mut at = 1;
                while *bytes.get(at)? != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at + 1
            }
            _ => {
                let mut at = 0;
                while let Some(byte) = bytes.get(at)
                    && !matches!(byte, b' ' | b'\n' | b'\t' | b'(' | b')' | b'{' | b'}')
                {
                    at += if *byte == b'\\' { 2 } else { 1 };
                }
                at
            }
        };
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read() {
        let tree = Value::parse(
            r#"{OPEXPR :opno 98 :name <> :args ({VAR :varattno 2} {CONST :constvalue 5 [ 20 0 0 -1 ] :names ("a b" x\ y\))})}"#,
        )
        .unwrap();
        let node = tree.node().unwrap();
        assert_eq!(
            (node.tag, node.number("opno"), node.get("name")),
            ("OPEXPR", Some(98), &Value::Nothing)
        );
        let [first, second] = node.get("args").list() else {
            panic!("two arguments")
        };
        assert_eq!(first.node().unwrap().number("varattno"), Some(2));
        let second = second.node().unwrap();
        assert_eq!(second.constant(), Some(vec![20, 0, 0, 255]));
        assert_eq!(
            second.get("names").list(),
            [Value::Word("\"a b\""), Value::Word(r"x\ y\)")]
        );
    }

    #[test]
    fn what_is_no_tree_is_none() {
        let deep = "(".repeat(100_000);
        // The last names an alias as if it were a field.
        for text in [
            "",
            "{",
            "(",
            "{A :b",
            "{a :b 1}",
            "{A :b 1} 2",
            "\"x",
            "x\\",
            &deep,
            "{A :b :c 1}",
            "{A :b 1 :b 2}",
        ] {
            assert_eq!(
                Value::parse(text).filter(|value| value.word().is_none()),
                None,
                "{text:.40}"
            );
        }
    }
}
