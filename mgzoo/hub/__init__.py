"""Transport of artifacts. A folder such as ``registry/``, or an endpoint with the Hugging Face protocol."""
