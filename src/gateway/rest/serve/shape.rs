//! The shape of a request: all that decides what it comes to, and apart from it the values that it is about.

use axum::http::{HeaderName, header, request::Parts};
use bytes::Bytes;

use super::super::{
    error::Result,
    parse::{
        operation::{self, Operation, Operator, Quantifier},
        payload::Payload,
        query::{Pair, is_plain},
    },
    sql::condition::operand,
};

/// Headers that say what to answer.
const HEADERS: [HeaderName; 3] = [header::ACCEPT, header::RANGE, HeaderName::from_static("prefer")];

/// The shape of a request about a relation. Requests with the same key differ in their values alone.
#[derive(Debug)]
pub struct Shape {
    /// Method, schema and name; the query string without what its filters compare with; the headers that matter.
    pub key: Vec<u8>,
    /// What the filters compare with.
    pub operands: Vec<Bytes>,
}

impl Shape {
    /// The shape of a request whose query string has these pairs.
    ///
    /// # Errors
    /// PGRST100 for a filter that is none.
    pub fn of(parts: &Parts, schema: &str, name: &str, pairs: &[Pair<'_>]) -> Result<Self> {
        let mut shape = Self {
            key: Vec::with_capacity(256),
            operands: Vec::new(),
        };
        shape.add(parts.method.as_str());
        shape.add(schema);
        shape.add(name);
        for name in &HEADERS {
            for value in parts.headers.get_all(name) {
                shape.add(value);
            }
            shape.add("");
        }
        for (key, value) in pairs {
            shape.add(key.as_ref());
            if is_plain(key) {
                let operation = operation::operation(value)?;
                shape.add_operation(&operation);
                shape.operands.push(operand(&operation));
            } else {
                shape.add(value.as_ref());
            }
        }
        Ok(shape)
    }

    /// The shape with what matters of the payload of a write: which keys it has, if the query string does not say.
    pub fn add_payload(&mut self, payload: Option<&Payload>) {
        let Some(payload) = payload else { return };
        self.add(if payload.is_empty { "nothing" } else { "rows" });
        for key in &payload.keys {
            self.add(key);
        }
    }

    /// An operation without its value.
    fn add_operation(&mut self, operation: &Operation) {
        self.add(if operation.negated { "not" } else { "" });
        match &operation.operator {
            Operator::Is(word) => {
                self.add("is");
                self.add(word);
            }
            Operator::In(_) => self.add("in"),
            Operator::Search { function, language, .. } => {
                self.add(function);
                self.add(language.as_deref().unwrap_or_default());
            }
            Operator::Binary { name, quantifier, .. } => {
                self.add(name);
                self.add(match quantifier {
                    None => "",
                    Some(Quantifier::Any) => "any",
                    Some(Quantifier::All) => "all",
                });
            }
        }
    }

    /// Each part with its length, so that no two shapes have one key.
    fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.key.extend_from_slice(&part.len().to_le_bytes());
        self.key.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::parse::query::decode_form, *};
    use axum::http::{Method, Request};

    fn shape(query: &str, headers: &[(&str, &str)]) -> Shape {
        let mut request = Request::builder().method(Method::GET);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        Shape::of(&parts, "public", "items", &decode_form(query)).unwrap()
    }

    #[test]
    fn values_of_filters_are_no_part_of_a_shape() {
        let one = shape("select=id&id=eq.1&name=in.(a,b)", &[]);
        let other = shape("select=id&id=eq.22&name=in.(c)", &[]);
        assert_eq!(one.key, other.key);
        assert_eq!(one.operands, ["1", "{\"a\",\"b\"}"]);
        assert_eq!(other.operands, ["22", "{\"c\"}"]);
    }

    #[test]
    fn whatever_else_differs_makes_another_shape() {
        let base = "select=id&id=eq.1&limit=2";
        let one = shape(base, &[]);
        let queries = [
            "select=id&id=gt.1&limit=2",
            "select=id&id=not.eq.1&limit=2",
            "select=id&id=eq(any).1&limit=2",
            "select=id&id=is.null&limit=2",
            "select=id&id=fts.1&limit=2",
            "select=id&id=fts(english).1&limit=2",
            "select=name&id=eq.1&limit=2",
            "select=id&id=eq.1&limit=3",
            "select=id&id=eq.1&or=(a.eq.1)",
            "select=id&id=eq.1&id=eq.1&limit=2",
            "id=eq.1&select=id&limit=2",
        ];
        for query in queries {
            assert_ne!(shape(query, &[]).key, one.key, "{query}");
        }
        for header in [("accept", "text/csv"), ("prefer", "count=exact"), ("range", "0-1")] {
            assert_ne!(shape(base, &[header]).key, one.key, "{header:?}");
        }
        assert_eq!(shape(base, &[("x-request-id", "7")]).key, one.key);
        assert_ne!(
            shape(base, &[("prefer", "a"), ("prefer", "b")]).key,
            shape(base, &[("prefer", "a, b")]).key
        );
    }
}
