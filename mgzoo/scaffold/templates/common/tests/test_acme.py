from mgzoo.testing import conformance

TestAcme = conformance("acme")
