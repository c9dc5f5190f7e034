package admin

// FailAtStep makes f run after each step of a change; an error of f ends the
// change.
func (lab *Lab) FailAtStep(f func(name string) error) { lab.failAtStep = f }
