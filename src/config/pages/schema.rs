//! `wirevault config --schema`: a JSON Schema (draft 2020-12) of the file, for editors.

use serde_json::{Map, Value, json};

use super::plain;
use crate::base::keys::{Key, Kind};
use crate::config::keys::{FileSection, Form, SECTIONS, SOURCES, SourceKind};

/// What [`units`](crate::base::units) reads as a size.
const SIZE: &str = r"^\s*[0-9]+(\.[0-9]{1,3})?\s*([bB]|[kKmMgGtT]([iI]?[bB])?)?\s*$";

/// What it reads as a rate.
const RATE: &str = r"^\s*[0-9]+(\.[0-9]{1,3})?\s*([bB]|[kKmMgGtT]([iI]?[bB])?)?\s*(/s)?\s*$";

/// What it reads as a duration.
const DURATION: &str = r"^\s*([0-9]+(\.[0-9]{1,3})?\s*([mM]([sS]|[iI][nN])?|[sShHdD])\s*)+$";

/// Returns the schema.
pub fn schema() -> Value {
    let mut properties = Map::new();
    for section in SECTIONS {
        match section.form {
            Form::Top => properties.extend(of_keys(section.keys)),
            Form::OneOrNamed => {
                let one = table(section.about, section.keys);
                let named = json!({"type": "object", "minProperties": 1, "additionalProperties": one});
                properties.insert(section.word.to_owned(), json!({"oneOf": [one, named]}));
            }
            Form::Named => {
                properties.insert(section.word.to_owned(), named(section));
            }
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "wirevault.toml",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// The tables of a section by their names.
fn named(section: &FileSection) -> Value {
    let inner = if section.word == "source" {
        let kinds: Vec<Value> = SOURCES.iter().map(|kind| of_kind(section, kind)).collect();
        json!({"oneOf": kinds})
    } else {
        table(section.about, section.keys)
    };
    json!({"type": "object", "description": plain(section.about), "additionalProperties": inner})
}

/// A source of one kind.
fn of_kind(section: &FileSection, kind: &SourceKind) -> Value {
    let keys: Vec<Key> = section.keys.iter().chain(kind.keys).copied().collect();
    let mut schema = table(kind.about, &keys);
    if let Some(property) = schema.pointer_mut("/properties/kind/enum") {
        *property = [Some(kind.word), kind.formerly].into_iter().flatten().collect();
    }
    schema
}

fn table(about: &str, keys: &[Key]) -> Value {
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    json!({
        "type": "object",
        "description": plain(about),
        "properties": of_keys(keys),
        "required": required,
        "additionalProperties": false,
    })
}

fn of_keys(keys: &[Key]) -> Map<String, Value> {
    let mut all = Map::new();
    for key in keys {
        let property = of_key(key);
        if let (Some(old), Some(fields)) = (key.formerly, property.as_object()) {
            let mut fields = fields.clone();
            fields.insert("deprecated".to_owned(), true.into());
            all.insert(old.to_owned(), fields.into());
        }
        all.insert(key.name.to_owned(), property);
    }
    all
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_kind_of_value(&key.kind);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".to_owned(), plain(key.help()).into());
        if let Some(default) = key.default.and_then(json_of) {
            fields.insert("default".to_owned(), default);
        }
        if let Some(example) = json_of(key.example) {
            fields.insert("examples".to_owned(), json!([example]));
        }
    }
    schema
}

fn of_kind_of_value(kind: &Kind) -> Value {
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Text | Kind::Url | Kind::Path => json!({"type": "string"}),
        Kind::Duration { .. } => json!({"type": "string", "pattern": DURATION}),
        Kind::Size { .. } => json!({"type": "string", "pattern": SIZE}),
        Kind::Rate => json!({"type": "string", "pattern": RATE}),
        Kind::Word(words) => json!({"type": "string", "enum": words}),
        Kind::Words(words) => json!({"type": "array", "items": {"type": "string", "enum": words}}),
        Kind::Texts => texts(),
        Kind::OneOrMore | Kind::Call => json!({"oneOf": [{"type": "string"}, texts()]}),
        Kind::FlagOrPath => json!({"type": ["boolean", "string"]}),
        Kind::UrlOrTable(keys) => json!({"oneOf": [{"type": "string"}, table("", keys)]}),
        Kind::Table(keys) => table("", keys),
        Kind::Tables(keys) => json!({"type": "object", "additionalProperties": table("", keys)}),
    }
}

/// Returns a value of TOML as JSON; nothing of an empty text.
fn json_of(toml: &str) -> Option<Value> {
    let document: toml::Table = format!("value = {toml}").parse().ok()?;
    serde_json::to_value(document.get("value")?).ok()
}
