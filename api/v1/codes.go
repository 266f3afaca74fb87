package apiv1

// ReplyCode is ReplyInfo.reply_code. The numbers never change their meaning;
// docs/errors.md says for each what to do.
type ReplyCode int32

// The codes.
const (
	CodeSuccess            ReplyCode = 0
	CodeInternal           ReplyCode = 1
	CodeInvalid            ReplyCode = 2 // a value can never work
	CodeNotFound           ReplyCode = 3
	CodeNameTaken          ReplyCode = 4 // by an object with other parameters
	CodeIdentical          ReplyCode = 5 // the object exists just as asked for
	CodeNQNTaken           ReplyCode = 6
	CodeAddressTaken       ReplyCode = 7 // listener or disk of another object
	CodeFailedPrecondition ReplyCode = 8
	CodeInUse              ReplyCode = 9 // others hang on the object
	CodeNoRoom             ReplyCode = 10
	CodeDatabase           ReplyCode = 11 // does not answer
	CodeBusy               ReplyCode = 12 // lost every race for the same rows
	CodeDeadline           ReplyCode = 13
	CodeCancelled          ReplyCode = 14
	CodeUnimplemented      ReplyCode = 15
	CodeUnreachable        ReplyCode = 16 // no portal replied: made by clients
	CodeUnauthenticated    ReplyCode = 17 // who calls is not known
	CodePermissionDenied   ReplyCode = 18 // who calls may not
)
