//! Who calls: the claims of a verified token, and the database role they name.

use std::sync::OnceLock;

use serde_json::{Map, Value, value::RawValue};

use super::keys::now;

/// The claims of a token. Thousands are held at a time, by those who listen and by the verifier: what only some services
/// ask for is read when it is first asked for.
#[derive(Debug)]
pub struct Claims {
    raw: Box<RawValue>,
    common: [Option<Value>; COMMON.len()],
    all: OnceLock<Map<String, Value>>,
}

/// What everybody asks for.
const COMMON: [&str; 4] = ["role", "sub", "exp", "session_id"];

impl Claims {
    /// Claims from a token's payload; `None` if it is not an object.
    pub fn new(raw: Box<RawValue>) -> Option<Self> {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(raw.get()) else {
            return None;
        };
        Some(Self {
            common: COMMON.map(|name| fields.remove(name)),
            raw,
            all: OnceLock::new(),
        })
    }

    /// The payload as it was signed: what `request.jwt.claims` is set to.
    pub fn raw(&self) -> &str {
        self.raw.get()
    }

    /// All claims.
    pub fn fields(&self) -> &Map<String, Value> {
        let read = || serde_json::from_str(self.raw.get()).unwrap_or_default();
        self.all.get_or_init(read)
    }

    /// One claim; a null counts as absent.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let value = match COMMON.iter().position(|common| *common == name) {
            Some(common) => self.common[common].as_ref(),
            None => self.fields().get(name),
        };
        value.filter(|value| !value.is_null())
    }

    /// The database role to act as.
    pub fn role(&self) -> Option<&str> {
        self.get("role")?.as_str()
    }

    /// The user's id.
    pub fn subject(&self) -> Option<&str> {
        self.get("sub")?.as_str()
    }

    /// When the token ends, seconds since 1970.
    pub fn expiry(&self) -> Option<i64> {
        let expiry = self.get("exp")?;
        #[expect(clippy::cast_possible_truncation, reason = "seconds; a fraction does not matter")]
        expiry
            .as_i64()
            .or_else(|| expiry.as_f64().map(|seconds| seconds as i64))
    }

    /// Whether the token ended more than `leeway` seconds ago.
    pub fn expired(&self, leeway: i64) -> bool {
        self.expiry().is_some_and(|expiry| expiry + leeway <= now())
    }
}
