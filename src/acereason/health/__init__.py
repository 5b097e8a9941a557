"""What is wrong with a run, said in sentences: rules over what it recorded."""
