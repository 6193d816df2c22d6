//! Functions, as Terraform calls them.

use super::*;
use crate::{Arguments, Function, FunctionError, Parameter, Provider, Schema, Signature, Type};

/// Joins words with a separator; `lost` breaks the function's own promise.
struct Join;

impl Function for Join {
    fn name(&self) -> &str {
        "join"
    }

    fn signature(&self) -> Signature {
        Signature::new("Joins.", "Joins words.", Type::String)
            .parameter(Parameter::new("between", Type::String, "Between them.").allow_null())
            .variadic(Parameter::new("words", Type::String, "The words.").allow_unknown())
    }

    fn call(&self, arguments: &Arguments) -> Result<Value, FunctionError> {
        let between: Option<String> = arguments.read(0)?;
        let mut words = Vec::new();
        for (index, word) in arguments.rest(1).iter().enumerate() {
            match word.as_str() {
                Some("lost") => return Ok(Value::Unknown),
                Some("panic") => panic!("a word broke"),
                Some("") => return Err(FunctionError::at(index + 1, "a word is empty")),
                Some(word) => words.push(word.to_owned()),
                None => return Ok(Value::Unknown),
            }
        }
        Ok(Value::from(words.join(between.as_deref().unwrap_or(", "))))
    }
}

struct Words;

impl Provider for Words {
    fn schema(&self) -> Schema {
        Schema::new("Words.")
    }
    fn functions(&self) -> Vec<Box<dyn Function>> {
        vec![Box::new(Join)]
    }
}

async fn join(arguments: &[Value]) -> Result<Value, FunctionError> {
    Terraform::new(Words).function("join", arguments.to_vec()).await
}

#[tokio::test]
async fn a_function_is_called_without_a_configured_provider() {
    let said = join(&["-".into(), "a".into(), "b".into()]).await;
    assert_eq!(said, Ok(Value::from("a-b")));
    assert_eq!(join(&[Value::Null, "a".into(), "b".into()]).await, Ok(Value::from("a, b")));
}

#[tokio::test]
async fn an_error_names_the_argument_and_a_panic_is_one_line() {
    let error = join(&["-".into(), "a".into(), "".into()]).await.unwrap_err();
    assert_eq!(error, FunctionError::at(2, "a word is empty"));
    let error = join(&["-".into(), Value::Null]).await.unwrap_err();
    assert_eq!(error, FunctionError::at(1, "words must not be null"));
    let error = join(&["-".into(), "panic".into()]).await.unwrap_err();
    assert!(error.text.contains("a word broke") && !error.text.contains('\n'), "{error}");
    assert_eq!(join(&[]).await.unwrap_err(), FunctionError::new("1 arguments are needed, not 0"));
}

#[tokio::test]
async fn an_unknown_argument_makes_an_unknown_result() {
    // Not allowed to be unknown: the function is not even asked.
    let said = join(&[Value::Unknown, "panic".into()]).await;
    assert_eq!(said, Ok(Value::Unknown));
    // Allowed: its own answer.
    assert_eq!(join(&["-".into(), Value::Unknown]).await, Ok(Value::Unknown));
    let error = join(&["-".into(), "lost".into()]).await.unwrap_err();
    assert!(error.text.contains("join left its result unknown"), "{error}");
}
