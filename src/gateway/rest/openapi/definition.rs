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
    let mut property = typed(&column.type_name);
    let mut notes: Vec<String> = column.description.iter().map(|text| format!("{text}\n")).collect();
    if relation.key.contains(&column.name) {
        notes.push("Note:\nThis is a Primary Key.<pk/>".to_owned());
    }
    if let Some((table, other)) = relation.references.get(&column.name) {
        if notes.is_empty() || !relation.key.contains(&column.name) {
            notes.push("Note:".to_owned());
        }
        notes.push(format!(
            "This is a Foreign Key to `{table}.{other}`.<fk table='{table}' column='{other}'/>"
        ));
    }
    if !notes.is_empty() {
        property["description"] = notes.join("\n").into();
    }
    if let Some(default) = &column.default {
        property["default"] = default_value(column.type_name.split('(').next().unwrap_or_default(), default);
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
    let bare = type_name.split('(').next().unwrap_or(type_name);
    let swagger = match bare {
        _ if type_name.ends_with("[]") => {
            let element = typed(&type_name[..type_name.len() - 2]);
            return json!({ "type": "array", "format": type_name, "items": { "type": element["type"] } });
        }
        "smallint" | "integer" | "bigint" => "integer",
        "numeric" | "real" | "double precision" => "number",
        "boolean" => "boolean",
        "json" | "jsonb" => return json!({ "format": type_name }),
        _ => "string",
    };
    json!({ "type": swagger, "format": type_name })
}

/// A default as JSON where it is a plain value, else its SQL.
fn default_value(type_name: &str, default: &str) -> Value {
    let literal = default.split("::").next().unwrap_or(default);
    let text = literal
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .unwrap_or(literal);
    match type_name {
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" | "boolean" => {
            serde_json::from_str(text).unwrap_or_else(|_| default.into())
        }
        _ => text.into(),
    }
}
