//! The body of a write or a call: which keys it has, and the JSON text that Postgres will read.

use std::{collections::BTreeSet, fmt};

use bytes::Bytes;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::{
    super::error::{Error, Result},
    media::Media,
    query,
};

/// A body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The keys that count, sorted.
    pub keys: BTreeSet<String>,
    /// A JSON array of objects.
    pub rows: Bytes,
    /// Whether there is no row.
    pub is_empty: bool,
}

impl Payload {
    /// Reads a body. With `columns` given, JSON is not looked at: Postgres will.
    ///
    /// # Errors
    /// PGRST102.
    pub fn parse(media: &Media, body: &Bytes, columns: Option<&[String]>) -> Result<Self> {
        let columns = columns.map(|columns| columns.iter().cloned().collect());
        match media {
            Media::Json => match columns {
                Some(keys) => Ok(Self {
                    keys,
                    rows: as_array(body),
                    is_empty: false,
                }),
                None => Self::json(body),
            },
            Media::Csv => Self::csv(body, columns),
            Media::Form => {
                let form = String::from_utf8_lossy(body);
                let pairs = query::decode_form(&form);
                let own = pairs.iter().map(|(key, _)| key.clone().into_owned()).collect();
                let row: serde_json::Map<_, _> = pairs
                    .into_iter()
                    .map(|(key, value)| (key.into_owned(), Value::String(value.into_owned())))
                    .collect();
                Ok(Self {
                    keys: columns.unwrap_or(own),
                    rows: json!([row]).to_string().into(),
                    is_empty: false,
                })
            }
            other => Err(Error::bad("PGRST102", format!("Content-Type not acceptable: {other}")).into()),
        }
    }

    fn json(body: &Bytes) -> Result<Self> {
        let invalid = || Error::bad("PGRST102", "Empty or invalid json");
        let shape: Shape = serde_json::from_slice(body).map_err(|_| invalid())?;
        match shape {
            Shape::Object(keys) => Ok(Self {
                keys,
                rows: as_array(body),
                is_empty: false,
            }),
            Shape::Array(None) | Shape::Other => Ok(Self {
                keys: BTreeSet::new(),
                rows: Bytes::from_static(b"[]"),
                is_empty: true,
            }),
            Shape::Array(Some(keys)) => Ok(Self {
                keys,
                rows: body.clone(),
                is_empty: false,
            }),
            Shape::Uneven => Err(Error::bad("PGRST102", "All object keys must match").into()),
        }
    }

    fn csv(body: &Bytes, columns: Option<BTreeSet<String>>) -> Result<Self> {
        let invalid = |message: &str| Error::bad("PGRST102", message);
        let text = std::str::from_utf8(body).map_err(|_| invalid("Invalid UTF-8 in CSV"))?;
        let mut lines = csv_lines(text)
            .ok_or_else(|| invalid("Unterminated quoted field in CSV"))?
            .into_iter();
        let header = lines.next().unwrap_or_default();
        let mut rows = Vec::new();
        for line in lines {
            if line.len() != header.len() {
                return Err(invalid("All lines must have same number of fields").into());
            }
            let members = header.iter().cloned().zip(line).map(|(key, value)| {
                let value = if value == "NULL" {
                    Value::Null
                } else {
                    Value::String(value)
                };
                (key, value)
            });
            rows.push(Value::Object(members.collect()));
        }
        Ok(Self {
            is_empty: rows.is_empty(),
            keys: columns.unwrap_or_else(|| header.into_iter().collect()),
            rows: Value::Array(rows).to_string().into(),
        })
    }
}

/// The same JSON, in an array if it is not one. Its text stays as it is: numbers keep their digits.
pub fn as_array(body: &Bytes) -> Bytes {
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if is_array {
        return body.clone();
    }
    [b"[", body.as_ref(), b"]"].concat().into()
}

/// What JSON is, as far as keys go.
enum Shape {
    Object(BTreeSet<String>),
    /// The keys that all its objects have; none for an empty array.
    Array(Option<BTreeSet<String>>),
    /// An array of something else than objects with the same keys.
    Uneven,
    Other,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Shape, A::Error> {
        keys(map).map(Shape::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Shape, A::Error> {
        let mut all: Option<BTreeSet<String>> = None;
        let mut uneven = false;
        while let Some(element) = elements.next_element_seed(Keys)? {
            match (element, &all) {
                (Some(keys), None) => all = Some(keys),
                (Some(keys), Some(known)) => uneven |= keys != *known,
                (None, _) => uneven = true,
            }
        }
        Ok(if uneven { Shape::Uneven } else { Shape::Array(all) })
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Other)
    }
}

/// The keys of an element; `None` if it is no object.
struct Keys;

impl<'de> DeserializeSeed<'de> for Keys {
    type Value = Option<BTreeSet<String>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match Shape::deserialize(deserializer)? {
            Shape::Object(keys) => Ok(Some(keys)),
            _ => Ok(None),
        }
    }
}

fn keys<'de, A: MapAccess<'de>>(mut map: A) -> Result<BTreeSet<String>, A::Error> {
    let mut keys = BTreeSet::new();
    while let Some(key) = map.next_key()? {
        map.next_value::<IgnoredAny>()?;
        keys.insert(key);
    }
    Ok(keys)
}

/// The fields of each line; `None` if a quote stays open. Quoted fields may hold commas, line ends and, doubled, quotes.
fn csv_lines(text: &str) -> Option<Vec<Vec<String>>> {
    let mut lines = Vec::new();
    let (mut line, mut field) = (Vec::new(), String::new());
    let mut characters = text.chars().peekable();
    let mut fresh = true;
    while let Some(character) = characters.next() {
        match character {
            '"' if field.is_empty() => loop {
                match characters.next()? {
                    '"' if characters.peek() == Some(&'"') => {
                        characters.next();
                        field.push('"');
                    }
                    '"' => break,
                    quoted => field.push(quoted),
                }
            },
            ',' => line.push(std::mem::take(&mut field)),
            '\r' if characters.peek() == Some(&'\n') => continue,
            '\n' => {
                line.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut line));
                fresh = true;
                continue;
            }
            other => field.push(other),
        }
        fresh = false;
    }
    if !fresh {
        line.push(field);
        lines.push(line);
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &'static str) -> Option<(Vec<String>, bool)> {
        let payload = Payload::parse(&Media::Json, &Bytes::from_static(body.as_bytes()), None).ok()?;
        Some((payload.keys.into_iter().collect(), payload.is_empty))
    }

    #[test]
    fn objects_of_an_array_must_have_the_same_keys() {
        assert_eq!(
            parse(r#"{"b":1,"a":{"c":[1]}}"#),
            Some((vec!["a".into(), "b".into()], false))
        );
        assert_eq!(parse(r#"[{"a":1},{"a":null}]"#), Some((vec!["a".into()], false)));
        assert_eq!(parse(r#"[{"a":1},{"b":1}]"#), None);
        assert_eq!(parse("[1]"), None);
        assert_eq!(parse("[{},{}]"), Some((vec![], false)));
        assert_eq!(parse("[]"), Some((vec![], true)));
        assert_eq!(parse("null"), Some((vec![], true)));
        assert_eq!(parse(""), None);
        assert_eq!(parse("{\"a\":1} x"), None);
    }

    #[test]
    fn numbers_keep_their_digits() {
        let body = Bytes::from_static(b" {\"a\": 1.000000000000000000001}");
        let payload = Payload::parse(&Media::Json, &body, None).unwrap();
        assert_eq!(payload.rows.as_ref(), b"[ {\"a\": 1.000000000000000000001}]");
    }

    #[test]
    fn csv_becomes_objects() {
        let body = Bytes::from_static(b"a,b\r\n1,\"x \"\"y\"\",\nz\"\nNULL,\n");
        let payload = Payload::parse(&Media::Csv, &body, None).unwrap();
        assert_eq!(
            payload.rows.as_ref(),
            br#"[{"a":"1","b":"x \"y\",\nz"},{"a":null,"b":""}]"#
        );
        let ragged = Bytes::from_static(b"a,b\n1\n");
        assert!(Payload::parse(&Media::Csv, &ragged, None).is_err());
        let open = Bytes::from_static(b"a\n\"1\n");
        assert!(Payload::parse(&Media::Csv, &open, None).is_err());
    }
}
