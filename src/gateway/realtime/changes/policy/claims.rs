//! Which of a caller's claims policies read: callers who agree in those see the same rows.

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::gateway::realtime::token::Identity;

/// Names callers who see the same rows.
pub type Who = [u8; 16];

/// Claims, as far as they are read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claims {
    /// Those at these places and no others.
    At(BTreeSet<Vec<String>>),
    /// Maybe all.
    All,
}

impl Default for Claims {
    fn default() -> Self {
        Self::At(BTreeSet::new())
    }
}

impl Claims {
    /// The place is read too; all of them where it is none in particular.
    pub fn read(&mut self, place: Vec<String>) {
        match self {
            Self::At(places) if !place.is_empty() => _ = places.insert(place),
            _ => *self = Self::All,
        }
    }

    /// A name for everybody with this role and these claims.
    pub fn who(&self, identity: &Identity) -> Who {
        let mut hash = Sha256::new();
        part(&mut hash, &identity.role);
        let values = match self {
            Self::At(places) => places.iter().map(|place| simple(&identity.claims, place)).collect(),
            Self::All => None,
        };
        match values {
            Some(values) => {
                let values: Vec<&Value> = values;
                values.iter().for_each(|value| part(&mut hash, &value.to_string()));
            }
            None => {
                hash.update([1]);
                part(&mut hash, identity.claims.raw());
            }
        }
        let (who, _) = hash
            .finalize()
            .split_first_chunk()
            .map_or(([0; 16], 0), |(who, _)| (*who, 0));
        who
    }
}

fn part(hash: &mut Sha256, text: &str) {
    hash.update([0]);
    hash.update(text.len().to_le_bytes());
    hash.update(text);
}

/// A claim that is null, a text, a truth or a whole number; others have more than one way to be written.
fn simple<'a>(claims: &'a crate::gateway::caller::Claims, place: &[String]) -> Option<&'a Value> {
    let (first, rest) = place.split_first()?;
    let mut value = claims.fields().get(first).unwrap_or(&Value::Null);
    for name in rest {
        value = match value {
            Value::Object(fields) => fields.get(name).unwrap_or(&Value::Null),
            Value::Array(_) => return None,
            _ => &Value::Null,
        };
    }
    let simple = match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Array(_) | Value::Object(_) => false,
    };
    simple.then_some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{json, value::RawValue};

    use super::*;
    use crate::gateway::caller;

    fn identity(role: &str, claims: &Value) -> Identity {
        let raw = RawValue::from_string(claims.to_string()).unwrap();
        Identity {
            role: role.to_owned(),
            claims: Arc::new(caller::Claims::new(raw).unwrap()),
        }
    }

    fn at(places: &[&[&str]]) -> Claims {
        let mut claims = Claims::default();
        for place in places {
            claims.read(place.iter().map(|name| (*name).to_owned()).collect());
        }
        claims
    }

    #[test]
    fn who_agrees_in_what_is_read_is_the_same() {
        let subject = at(&[&["sub"]]);
        let (first, later) = (json!({ "sub": "a", "iat": 1 }), json!({ "sub": "a", "iat": 2 }));
        let who = |claims: &Claims, role: &str, of: &Value| claims.who(&identity(role, of));
        assert_eq!(who(&subject, "r", &first), who(&subject, "r", &later));
        assert_ne!(who(&Claims::All, "r", &first), who(&Claims::All, "r", &later));
        assert_ne!(who(&subject, "r", &first), who(&subject, "s", &first));
        assert_ne!(who(&subject, "r", &first), who(&subject, "r", &json!({ "sub": "b" })));
        assert_ne!(
            who(&subject, "r", &json!({})),
            who(&subject, "r", &json!({ "sub": "null" }))
        );

        let tenant = at(&[&["app", "tenant"], &["sub"]]);
        let of = |tenant: Value| json!({ "sub": "a", "app": { "tenant": tenant } });
        assert_ne!(who(&tenant, "r", &of(json!("x"))), who(&tenant, "r", &of(json!("y"))));
        assert_eq!(
            who(&tenant, "r", &json!({ "sub": "a" })),
            who(&tenant, "r", &of(Value::Null))
        );
        // Numbers this large are one to us and two to Postgres; what is no simple value is not compared at all.
        for (one, other) in [
            (
                r#"{"sub":"a","app":{"tenant":123456789012345678901234}}"#,
                r#"{"sub":"a","app":{"tenant":123456789012345678901235}}"#,
            ),
            (
                r#"{"sub":"a","app":{"tenant":[1]}}"#,
                r#"{"sub":"a","app":{"tenant":[2]}}"#,
            ),
            (r#"{"sub":"a","app":[1]}"#, r#"{"sub":"a","app":[2]}"#),
        ] {
            let who = |raw: &str| {
                let raw = RawValue::from_string(raw.to_owned()).unwrap();
                let claims = Arc::new(caller::Claims::new(raw).unwrap());
                tenant.who(&Identity {
                    role: "r".into(),
                    claims,
                })
            };
            assert_ne!(who(one), who(other));
        }
    }

    #[test]
    fn claims_as_a_whole_are_all() {
        let mut claims = at(&[&["sub"]]);
        claims.read(Vec::new());
        claims.read(vec!["role".into()]);
        assert_eq!(claims, Claims::All);
    }
}
