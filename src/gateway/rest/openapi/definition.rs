//! Relations, columns and types as JSON schemas.

use serde_json::{Map, Value, json};

use super::super::catalog::{Column, Relation};

pub fn describe_as(value: &mut Value, description: Option<&str>) {
    if let (Some(object), Some(description)) = (value.as_object_mut(), description) {
        object.insert("description".to_owned(), description.into());
    }
}

pub fn definition(relation: &Relation) -> Value {
    let required: Vec<&str> = relation
        .columns
        .iter()
        .filter(|column| !column.nullable)
        .map(|column| column.name.as_str())
        .collect();
    let properties: Map<String, Value> = relation
        .columns
        .iter()
        .map(|column| (column.name.clone(), property(relation, column)))
        .collect();
    let mut definition = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        definition["required"] = json!(required);
    }
    describe_as(&mut definition, relation.description.as_deref());
    definition
}

fn property(relation: &Relation, column: &Column) -> Value {
    let mut property = typed(&column.base);
    let mut notes = Vec::new();
    if relation.key.contains(&column.name) {
        notes.push("This is a Primary Key.<pk/>".to_owned());
    }
    if let Some((table, other)) = relation.references.get(&column.name) {
        notes.push(format!(
            "This is a Foreign Key to `{table}.{other}`.<fk table='{table}' column='{other}'/>"
        ));
    }
    let notes = (!notes.is_empty()).then(|| format!("Note:\n{}", notes.join("\n")));
    let said: Vec<String> = column.description.clone().into_iter().chain(notes).collect();
    describe_as(
        &mut property,
        Some(said.join("\n\n").as_str()).filter(|said| !said.is_empty()),
    );
    if let Some(default) = column
        .default
        .as_deref()
        .and_then(|default| plain(&column.base, default))
    {
        property["default"] = default;
    }
    if let Some(length) = column.max_length {
        property["maxLength"] = length.into();
    }
    if let Some(values) = &column.values {
        property["enum"] = json!(values);
    }
    property
}

/// A type as Swagger and Postgres name it.
pub fn typed(type_name: &str) -> Value {
    let mut schema = json!({ "format": format(type_name) });
    if let Some(swagger) = swagger(type_name) {
        schema["type"] = swagger.into();
    }
    if let Some(element) = type_name.strip_suffix("[]") {
        schema["items"] = match swagger(element) {
            Some(swagger) => json!({ "type": swagger }),
            None => json!({}),
        };
    }
    schema
}

/// A type whose values come in a query: as texts, unless they are numbers or truths; several for a variadic one.
pub fn in_query(type_name: &str, variadic: bool) -> Value {
    match type_name.strip_suffix("[]").filter(|_| variadic) {
        Some(element) => {
            json!({ "type": "array", "collectionFormat": "multi", "items": typed(element) })
        }
        None => {
            let swagger = swagger(type_name).filter(|swagger| *swagger != "array");
            json!({ "type": swagger.unwrap_or("string"), "format": format(type_name) })
        }
    }
}

/// A type's name, without its schema if that is the one described.
pub fn own_type<'n>(schema: &str, type_name: &'n str) -> &'n str {
    let named = type_name.strip_prefix(schema);
    let quoted = || {
        let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
        type_name.strip_prefix(quoted.as_str())
    };
    let own = named.or_else(quoted).and_then(|rest| rest.strip_prefix('.'));
    own.unwrap_or(type_name)
}

/// The type of JSON that a value is; any for `None`.
fn swagger(type_name: &str) -> Option<&'static str> {
    match type_name {
        "smallint" | "integer" | "bigint" => Some("integer"),
        "numeric" | "real" | "double precision" => Some("number"),
        "boolean" => Some("boolean"),
        "json" | "jsonb" => None,
        _ if type_name.ends_with("[]") => Some("array"),
        _ => Some("string"),
    }
}

fn format(type_name: &str) -> &str {
    match type_name {
        "smallint" | "integer" => "int32",
        "bigint" => "int64",
        _ => type_name,
    }
}

/// A default that is a value and not something to compute.
fn plain(type_name: &str, default: &str) -> Option<Value> {
    if swagger(type_name) != Some("string") {
        return serde_json::from_str(default).ok();
    }
    let cast = format!("::{type_name}");
    let text = default
        .strip_suffix(&cast)
        .map_or(default, |literal| literal.trim_matches('\''));
    serde_json::from_str(&format!("\"{text}\"")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_told_when_they_are_values() {
        assert_eq!(plain("text", "'early'::text"), Some(json!("early")));
        assert_eq!(plain("integer", "42"), Some(json!(42)));
        assert_eq!(plain("integer", "nextval('tickets_id_seq'::regclass)"), None);
        assert_eq!(plain("jsonb", "'{}'::jsonb"), None);
    }

    #[test]
    fn types_are_named_as_json_and_postgres_name_them() {
        assert_eq!(typed("bigint"), json!({ "type": "integer", "format": "int64" }));
        assert_eq!(
            typed("jsonb[]"),
            json!({ "type": "array", "format": "jsonb[]", "items": {} })
        );
        assert_eq!(
            in_query("text[]", false),
            json!({ "type": "string", "format": "text[]" })
        );
        let several = json!({
            "type": "array", "collectionFormat": "multi", "items": { "type": "integer", "format": "int32" },
        });
        assert_eq!(in_query("integer[]", true), several);
        assert_eq!(own_type("a b", "\"a b\".mood"), "mood");
        assert_eq!(own_type("desk", "desks.mood"), "desks.mood");
    }
}
