//! GetFunctions and CallFunction.

use std::{collections::HashMap, sync::Arc};

use super::{Inner, guard::guard, wire};
use crate::{
    cty::{Type, Value},
    diag::Diagnostic,
    function::{Arguments, Function, FunctionError, Signature},
    proto::{self, call_function},
    schema::InvalidSchema,
};

/// A function with its signature, which is asked once.
pub(super) struct Entry {
    pub(super) signature: Signature,
    it: Box<dyn Function>,
}

impl Entry {
    pub(super) fn new(it: Box<dyn Function>) -> Result<(String, Self), InvalidSchema> {
        let signature = it.signature();
        signature.check(it.name())?;
        Ok((it.name().to_owned(), Self { signature, it }))
    }
}

pub(super) fn all(inner: &Inner) -> HashMap<String, proto::Function> {
    let functions = inner.functions.iter();
    functions.map(|(name, entry)| (name.clone(), entry.signature.to_proto())).collect()
}

pub(super) async fn call(
    inner: &Arc<Inner>,
    request: call_function::Request,
) -> call_function::Response {
    let this = inner.clone();
    let what = format!("calling {}", request.name);
    let result = guard(&what, async move { call_inner(&this, &request) }).await;
    let (result, error) = match result {
        Ok(Ok(value)) => (Some(value), None),
        Ok(Err(error)) => (None, Some(error)),
        Err(panicked) => (None, Some(one_line(&panicked))),
    };
    let error = error.map(|FunctionError { argument, text }| proto::FunctionError {
        text,
        function_argument: argument.and_then(|index| i64::try_from(index).ok()),
    });
    call_function::Response { result, error }
}

fn call_inner(
    inner: &Inner,
    request: &call_function::Request,
) -> Result<proto::DynamicValue, FunctionError> {
    let name = &request.name;
    let entry = inner.functions.find(name).ok_or_else(|| {
        FunctionError::new(format!(
            "this version of the provider has no function {name}; use the one that the \
             configuration was written for"
        ))
    })?;
    let signature = &entry.signature;
    let arguments = decode(signature, &request.arguments)?;
    // As Terraform does it too: what is allowed is the function's own business.
    let unknown = |(index, value): (usize, &Value)| {
        !value.is_wholly_known() && !signature.at(index).is_some_and(|p| p.unknown)
    };
    if arguments.iter().enumerate().any(unknown) {
        return written(&Value::Unknown, &signature.returns);
    }
    let is_known = arguments.iter().all(Value::is_wholly_known);
    let result = entry.it.call(&Arguments(arguments))?;
    if is_known && !result.is_wholly_known() {
        let bug = Diagnostic::provider_bug(
            format!("{name} left its result unknown"),
            "all of its arguments are known",
        );
        return Err(one_line(&bug));
    }
    written(&signature.returns.normalise(&result), &signature.returns)
}

fn decode(
    signature: &Signature,
    arguments: &[proto::DynamicValue],
) -> Result<Vec<Value>, FunctionError> {
    if arguments.len() < signature.parameters.len() {
        let (needed, given) = (signature.parameters.len(), arguments.len());
        return Err(FunctionError::new(format!("{needed} arguments are needed, not {given}")));
    }
    let one = |(index, argument): (usize, &proto::DynamicValue)| {
        let parameter = signature.at(index).ok_or_else(|| {
            let most = signature.parameters.len();
            FunctionError::at(index, format!("there are {most} parameters only"))
        })?;
        let value =
            wire::decode(Some(argument), &parameter.ty, "argument").map_err(|diagnostic| {
                FunctionError { argument: Some(index), ..one_line(&diagnostic) }
            })?;
        if value.is_null() && !parameter.null {
            return Err(FunctionError::at(index, format!("{} must not be null", parameter.name)));
        }
        Ok(value)
    };
    arguments.iter().enumerate().map(one).collect()
}

fn written(value: &Value, ty: &Type) -> Result<proto::DynamicValue, FunctionError> {
    wire::encode(value, ty, "result").map_err(|diagnostic| one_line(&diagnostic))
}

/// Functions have no room for a title.
fn one_line(diagnostic: &Diagnostic) -> FunctionError {
    let detail = diagnostic.detail.replace("\n\n", " ");
    FunctionError::new(format!("{}: {}", diagnostic.summary, detail.trim_end_matches('.')))
}
