//! How filters of subscriptions are written: `column=[not.]op.value`, several separated by commas and all to hold.

/// Values an `in` may list.
pub const MAX_VALUES: usize = 100;

/// An operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `=`
    Eq,
    /// `<>`
    Neq,
    /// `<`
    Lt,
    /// `<=`
    Lte,
    /// `>`
    Gt,
    /// `>=`
    Gte,
    /// `= any`
    In,
    /// `like`
    Like,
    /// `ilike`
    Ilike,
    /// `is`
    Is,
    /// `~`
    Match,
    /// `~*`
    Imatch,
    /// `is distinct from`
    IsDistinct,
}

impl Op {
    const ALL: [(&'static str, Self, &'static str); 13] = [
        ("eq", Self::Eq, "="),
        ("neq", Self::Neq, "<>"),
        ("lt", Self::Lt, "<"),
        ("lte", Self::Lte, "<="),
        ("gt", Self::Gt, ">"),
        ("gte", Self::Gte, ">="),
        ("in", Self::In, "= any"),
        ("like", Self::Like, "like"),
        ("ilike", Self::Ilike, "ilike"),
        ("is", Self::Is, "is"),
        ("match", Self::Match, "~"),
        ("imatch", Self::Imatch, "~*"),
        ("isdistinct", Self::IsDistinct, "is distinct from"),
    ];

    /// The operator's name in filters and in `realtime.equality_op`.
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// The operator in SQL.
    pub fn sql(self) -> &'static str {
        self.entry().2
    }

    /// Whether the value is a pattern of text, not a value of the column's type.
    pub fn is_pattern(self) -> bool {
        matches!(self, Self::Like | Self::Ilike | Self::Match | Self::Imatch)
    }

    fn entry(self) -> (&'static str, Self, &'static str) {
        Self::ALL
            .into_iter()
            .find(|(_, op, _)| *op == self)
            .expect("every operator is listed")
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(each, ..)| *each == name)
            .map(|(_, op, _)| op)
    }
}

/// A condition as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The column.
    pub column: String,
    /// What to compare with.
    pub op: Op,
    /// Whether `not.` stands before it.
    pub negate: bool,
    /// The value; for `in` a Postgres array literal.
    pub value: String,
}

/// Why a filter cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FilterError {
    /// No `column=op.value`, or no such operator.
    #[error("Error parsing `filter` params: {0}")]
    Shape(String),
    /// `in` without parentheses.
    #[error("Error parsing `filter` params: `in` filter value must be wrapped by parentheses")]
    Parentheses,
    /// A comma with nothing before or behind it.
    #[error("Error parsing `filter` params: filter must not contain empty segments (check for extra commas)")]
    EmptySegment,
}

/// Reads a filter; blank text is no condition.
///
/// # Errors
/// When it does not follow the grammar.
pub fn parse(text: &str) -> Result<Vec<Written>, FilterError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    segments(text).into_iter().map(condition).collect()
}

fn condition(segment: &str) -> Result<Written, FilterError> {
    if segment.trim().is_empty() {
        return Err(FilterError::EmptySegment);
    }
    // As far as it could be taken apart.
    let shape = |parts: &[&str]| FilterError::Shape(format!("{parts:?}"));
    let segment = segment.trim();
    let (column, rest) = segment.split_once('=').ok_or_else(|| shape(&[segment]))?;
    let (negate, rest) = rest.strip_prefix("not.").map_or((false, rest), |rest| (true, rest));
    let (op, value) = rest.split_once('.').ok_or_else(|| shape(&[rest]))?;
    let op = Op::parse(op).ok_or_else(|| shape(&[op, value]))?;
    let value = match op {
        Op::In => {
            let list = value.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
            format!("{{{}}}", list.ok_or(FilterError::Parentheses)?)
        }
        _ => unquote(value),
    };
    Ok(Written {
        column: column.to_owned(),
        op,
        negate,
        value,
    })
}

/// Splits at the commas that stand neither in parentheses nor in quotes. A quote opens only where a value can start.
fn segments(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0_u32, false);
    let (mut before, mut escaped) = ('.', false);
    for (at, next) in text.char_indices() {
        match next {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if quoted => quoted = false,
            '"' if matches!(before, '.' | '(' | ',') => quoted = true,
            _ if quoted => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        before = next;
    }
    parts.push(&text[start..]);
    parts
}

fn unquote(value: &str) -> String {
    let Some(inner) = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|_| value.len() > 1)
    else {
        return value.to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(next) = chars.next() {
        out.push(if next == '\\' {
            chars.next().unwrap_or('\\')
        } else {
            next
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(column: &str, negate: bool, op: Op, value: &str) -> Written {
        Written {
            column: column.into(),
            op,
            negate,
            value: value.into(),
        }
    }

    #[test]
    fn filters_are_read() {
        assert_eq!(parse("id=eq.5"), Ok(vec![written("id", false, Op::Eq, "5")]));
        assert_eq!(
            parse("a=not.in.(1,2),b=neq.x.y=z"),
            Ok(vec![
                written("a", true, Op::In, "{1,2}"),
                written("b", false, Op::Neq, "x.y=z")
            ])
        );
        assert_eq!(
            parse(r#"a=eq."x,\"y\"",b=in.("p,q",r)"#),
            Ok(vec![
                written("a", false, Op::Eq, "x,\"y\""),
                written("b", false, Op::In, "{\"p,q\",r}")
            ])
        );
        assert_eq!(
            parse(r#"a=eq.5" nails"#),
            Ok(vec![written("a", false, Op::Eq, "5\" nails")])
        );
        assert_eq!(parse("  "), Ok(vec![]));
        assert_eq!(parse("a=eq.1,"), Err(FilterError::EmptySegment));
        assert_eq!(parse("a=in.1,2").unwrap_err(), FilterError::Parentheses);
        let error = |text| parse(text).unwrap_err().to_string();
        assert_eq!(error("a=foo.hey"), r#"Error parsing `filter` params: ["foo", "hey"]"#);
        assert_eq!(error(" undefined "), r#"Error parsing `filter` params: ["undefined"]"#);
        assert_eq!(error("foo=hey"), r#"Error parsing `filter` params: ["hey"]"#);
        for bad in ["foo", "a=nope.1", "a=eq", "\"", ",", "a=not.eq"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
