//! What a JSON document is made of, for pinning it: keys stay, values become the names of their types.

use serde_json::{Map, Value};

/// Returns the keys of a document with the types of their values. What a list holds is told once; whether a list of texts has any
/// is a matter of the server.
pub(crate) fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "text".into(),
        Value::Array(all) => {
            let mut shapes: Vec<Value> = Vec::new();
            for one in all.iter().map(shape) {
                if one != "text" && !shapes.contains(&one) {
                    shapes.push(one);
                }
            }
            if shapes.is_empty() {
                "list".into()
            } else {
                shapes.into()
            }
        }
        Value::Object(fields) => {
            let fields: Map<String, Value> = fields.iter().map(|(key, one)| (key.clone(), shape(one))).collect();
            fields.into()
        }
    }
}

/// The same as lines, from what a command printed.
pub(crate) fn shape_lines(printed: &[u8]) -> String {
    let document: Value = serde_json::from_slice(printed).unwrap();
    format!("{:#}", shape(&document))
}
