//! Conversion of JavaScript's values to facts, except of events, which cross packed ([`super::packed`]).

use js_sys::{Array, Object};
use wasm_bindgen::prelude::*;

use crate::sources::facts::Scalar;

/// Converts by hand: serde would refuse all facts for one of another type. An object becomes a list of pairs; any other value
/// that is neither a scalar nor a list becomes an unusable fact.
pub(crate) fn scalar(value: &JsValue) -> Scalar {
    if let Some(list) = value.dyn_ref::<Array>() {
        return Scalar::List(list.iter().map(|entry| scalar(&entry)).collect());
    }
    if let Some(number) = value.as_f64() {
        Scalar::Number(number)
    } else if let Some(text) = value.as_string() {
        Scalar::Text(text)
    } else if let Some(flag) = value.as_bool() {
        Scalar::Bool(flag)
    } else if value.is_null() || value.is_undefined() {
        Scalar::Absent
    } else if value.is_object() {
        scalar(&Object::entries(value.unchecked_ref()))
    } else {
        Scalar::List(Vec::new())
    }
}
